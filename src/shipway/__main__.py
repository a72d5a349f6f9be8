"""`python -m shipway` is the same as `shipway`."""

from shipway.cli.app import main

if __name__ == "__main__":
    main()
