"""How a workflow is killed at chosen points, resumed and compared.

`launcher` pickles the workflow for a harness, and starts that in an interpreter of its own. There `verify` has the
`harness` run one `trial` after the other, each in a fork. In a trial the storage is
`instrumented`, and a listener added: they pass `kill_points`, and leave a journal of what happened before the kill.
"""
