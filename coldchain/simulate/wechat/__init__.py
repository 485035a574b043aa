"""A WeChat for tests, demos and integrators: it answers as the platform does, and tells what each person received.

An account that it speaks for (`account`), its access tokens (`tokens`), what its people have and received (`phones`),
faults on demand (`faults`), the platform's own endpoints (`platform`), and pages and levers for people (`desk`).
"""
