"""What every page shares: sidebar, jobs, and what is sent before anything else."""
