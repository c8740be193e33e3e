"""Rollouts: a release goes to a few devices first, and to the next ones when those are well.

waves.py      what `1,5%,25%,100%` and `10m` mean
model.py      what is kept of a rollout
standing.py   where one device stands
logic.py      what comes next: pure
kept.py       the file of a rollout, and who may write it
brokers.py    what devices say, and what they are told
running.py    the loop of an operator's machine
table.py      for people
command.py    `shelfkit deploy rollout`
"""
