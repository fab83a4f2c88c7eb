"""What the folder ``leaderboard`` holds: records, per-image results, claims, evidence, submissions."""
