"""The embedded demo model: weights in model/, and the scripts that made and measure them.

Nothing here is imported by the server; the engine loads model/ like any other model folder. The modules run as
scripts, in the engine's environment: `python -m engine_worker.demo_model.train OUT`, `... .evaluate MODEL`.
"""
