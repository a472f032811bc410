"""A stand-in with the shape of a checkout of calvin_env, over a few boxes in PyBullet: own code, none of CALVIN's."""
