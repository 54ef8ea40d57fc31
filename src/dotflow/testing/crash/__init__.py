"""How a workflow is killed at chosen points, resumed and compared.

`api` pickles the workflow for a harness, an interpreter of its own, which `launcher` starts. There `verify` has the
`harness` run one `trial` after the other, each in a fork (`children`). In a trial the storage is
`instrumented`, and a listener added: they pass `kill_points`, and leave a journal of what happened before the kill.
"""
