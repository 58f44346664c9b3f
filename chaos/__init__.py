"""Chaos passes: processes are killed and frozen, Graph fails in each way, and no message may be lost.

``python3 dev.py chaos --seed 7 --database postgresql --dispatcher celery``. Each pass prints its seed. The same seed
repeats the faults in the same order, but not at the same moments. docs/reliability.md describes a pass.
"""

import os

if "CHAOS_BROKER" in os.environ:
    # As in the package of a project: each process needs the Celery app to find the broker.
    from chaos.celery_app import app as celery_app  # noqa: F401
