"""A reward in, an agent out: simulators, the vector environment, SAC."""
