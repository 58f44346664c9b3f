"""The edges of Graph that the emulator answers, one module for each family."""
