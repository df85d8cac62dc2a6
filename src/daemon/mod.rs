//! THE LOOP.
