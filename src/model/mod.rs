//! THE VOCABULARY: plain values and newtypes.
