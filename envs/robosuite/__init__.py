"""robosuite (Zhu et al. 2020, arXiv:2009.12293): the tasks of its single arm and of its two."""
