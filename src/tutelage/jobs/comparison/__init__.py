"""What a comparison is made of: who takes part, equal budgets, tuning, the trainings, and the ranking; `jobs.compare` puts it together."""
