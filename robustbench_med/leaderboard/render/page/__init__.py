"""The page of the leaderboard: static, from boards alone, without a network."""
