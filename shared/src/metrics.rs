//! Figures of merit of a detector: AUROC, AUPR, F1, rates at an operating point.
