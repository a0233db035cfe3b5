"""What is made of the topics after the fact: audit, explain, replay, archive, restore.

All of it reads a :class:`streams.replay.log.Log`, which is a Kafka that runs or an archive of one,
and decides by the pure functions of ``streams/core`` only.
"""
