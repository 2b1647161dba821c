"""What minirt costs, as ratios to what others do for the same. `bench/run` is the way in."""
