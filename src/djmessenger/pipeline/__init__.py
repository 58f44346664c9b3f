"""Internal: the processing of messages, from the signed body of a callback to the replies.

``intake`` stores callbacks and splits them into events. ``inbox`` applies the policy to events. ``outbox`` sends
replies. ``engine`` combines these steps. ``worker`` and ``dispatch`` decide when a step runs. The names in this package
may change in any version.
"""
