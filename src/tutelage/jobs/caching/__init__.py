"""The parts of `jobs.cache`: what to keep, asking the teacher, what it will take, writing the shards, what a cache holds."""
