"""How far two executions are apart: metrics, limits per dtype, verdict."""
