"""The strategies, one file each, against `rbmed_fl.federation.FederatedStrategy`."""
