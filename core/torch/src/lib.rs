//! libtorch engine: causal language models, generation, log-probabilities, training
