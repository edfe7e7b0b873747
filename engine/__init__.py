"""The pure engine: pictures and tags in, scores and bundles out; it knows no Ray and no HTTP."""
