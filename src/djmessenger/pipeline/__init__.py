"""The engine: a signed body in, rows split from it, the policy applied to each, replies out.

``intake`` writes callbacks down and splits them, ``inbox`` applies the policy, ``outbox`` sends, ``dispatch``
decides who does it and when. States of rows change here and nowhere else.
"""
