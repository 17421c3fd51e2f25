def augmented(data, recipe):
    return data
