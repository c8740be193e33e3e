"""The files and messages that stages hand to each other, each with exactly one owner here.

They live in the agent because the device is the consumer that every stage must satisfy,
and the only place where nothing heavy may be installed.
"""
