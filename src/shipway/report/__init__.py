"""One result, three readers: a terminal summary, report.json, and a self-contained report.html."""
