"""Simulator of WeChat for tests, demos and integrators.

It answers like the platform, and shows what each person received.

Its modules: the official account (`account`), access tokens (`tokens`), people and their messages (`phones`), faults on
demand (`faults`), WeChat's own endpoints (`platform`), and pages and controls for people and tests (`desk`).
"""
