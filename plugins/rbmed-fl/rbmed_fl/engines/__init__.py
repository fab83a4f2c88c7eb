"""The engines, which pass messages between ServerApp and ClientApps: in this process, over Ray, or over a network."""
