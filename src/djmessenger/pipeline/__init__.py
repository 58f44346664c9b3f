"""Internal: the processing of messages, from the signed body of a callback to the replies.

``store`` inserts callbacks, and ``split`` inserts their events. ``handling`` applies the policy to events. ``sending``
sends replies. ``engine`` combines these steps. ``worker`` and ``dispatch`` decide when a step runs. The names in this
package may change in any version.
"""
