"""The sandbox at work: its builder, the fork into it, what came of it."""
