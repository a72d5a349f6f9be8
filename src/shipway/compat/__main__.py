"""`python -m shipway.compat script.py ARGS` runs a script written for another graph tool."""

import sys

from shipway.compat.running import run_script

if __name__ == "__main__":
    sys.exit(run_script(sys.argv[1:]))
