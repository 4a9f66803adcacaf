//! What a build tells while it runs, and how it is shown.
