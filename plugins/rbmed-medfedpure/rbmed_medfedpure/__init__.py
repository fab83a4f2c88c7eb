"""MedFedPure (Karami et al. 2025) and the undefended classifier it is compared with."""
