"""isolate=True: the step has a process of its own in every mode, so that its timeout ends anything, C code too."""

import hashlib

from dotflow import DotFlow, action


@action(timeout=0.2, isolate=True)
def hash_password() -> bytes:
    return hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", 2_000_000_000)  # minutes in C, which no signal interrupts


workflow = DotFlow()
workflow.task.add(step=hash_password)
run = workflow.start()

print(run.tasks[0].errors[-1].message)
# Step 'hash_password' did not finish within its timeout of 0.2 s. It did not stop by itself within 1 s, so its worker
# process was killed.
