"""Drawing MuJoCo worlds quickly in software: what is drawn is a named level, never what is simulated."""
