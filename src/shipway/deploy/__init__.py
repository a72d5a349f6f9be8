"""The whole road, resumable: source, export, proof, engines, compare, evaluate, bench, report."""
