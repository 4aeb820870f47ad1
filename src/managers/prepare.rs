//! The template flow of `prepare`.
