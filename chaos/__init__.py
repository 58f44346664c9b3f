"""Faults on purpose: real processes are killed and frozen, Graph fails in every way, and nothing may be lost.

``python3 dev.py chaos --seed 7 --database postgresql``. Every pass prints its seed; the same seed gives the same
faults in the same order, though not at the same moments.
"""
