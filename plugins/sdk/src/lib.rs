//! What a plugin author needs: options from JSON, templates, seeded draws
