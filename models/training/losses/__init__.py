"""What a fill is judged by while a network learns; each loss is a function of tensors."""
