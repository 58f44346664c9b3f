"""Faults on purpose: real processes are killed and frozen, Graph fails in every way, and nothing may be lost.

``python3 dev.py chaos --seed 7 --database postgresql --dispatcher celery``. Every pass prints its seed; the same seed
gives the same faults in the same order, though not at the same moments. docs/reliability.md tells what a pass does.
"""

import os

if "CHAOS_BROKER" in os.environ:
    # As the package of a project does: every process has to know the broker.
    from chaos.celery_app import app as celery_app  # noqa: F401
