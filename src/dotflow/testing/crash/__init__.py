"""How a workflow is killed at chosen moments: the stage where rounds are played, and what is made of what they tell.

`api` starts a harness (`launcher`): an interpreter of its own that becomes one
(`harness_main`). `verify` has it run one trial after the other (`harness`), each in a fork (`children`, `trial`),
with a storage and a history that are `instrumented`, kill at their `kill_points` and note what happened in a `journal`.
"""
