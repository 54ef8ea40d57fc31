"""How a workflow is killed at chosen moments: the stage where rounds are played, and what is made of what they tell.

`crashes.py`, one folder up, starts a stage (`start_stage`): an interpreter of its own that becomes one
(`become_stage`). A `proof` has it play one round after the other (`stage`), each in a fork (`offspring`, `rounds`),
with a storage and a history that are `watched`, kill at their `points` and note what happened in a `journal`.
"""
