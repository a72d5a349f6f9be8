"""How fast an engine is: latency, throughput, CPU time, and whether the machine was quiet."""
