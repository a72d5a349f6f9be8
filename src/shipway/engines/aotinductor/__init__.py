"""AOTInductor: compiles an exported program to a package of machine code for this kind of CPU."""

from shipway.engines.aotinductor.engine import AotInductorEngine

__all__ = ["AotInductorEngine"]
