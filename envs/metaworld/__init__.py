"""Meta-World 3.1 (Yu et al. 2019, arXiv:1910.10897; McLean et al. 2025, arXiv:2505.11289)."""
