"""Trajectories that can be trained on: specs, the store, the gate, windows, sampling, normalisation and grounding.

Import from the module that owns the idea (`deixis.datasets.store`, `deixis.datasets.windows`, ...): nothing is loaded
here, so that reading a spec costs no more than the spec.
"""

if __name__ == "datasets":
    raise ImportError(
        "`import datasets` found deixis' own folder instead of the Hugging Face package `datasets`, because the root "
        "of the deixis checkout is on sys.path (`python -m ...`, `python -c ...` or a notebook started there). "
        "For deixis' data tools write `import deixis.datasets`; for Hugging Face datasets start Python elsewhere or "
        "set PYTHONSAFEPATH=1."
    )
