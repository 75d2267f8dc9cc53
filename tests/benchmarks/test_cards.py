from benchmarks.cards import peak_rate


def test_a_card_is_found_by_the_name_that_its_driver_reports():
    assert peak_rate("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert peak_rate("NVIDIA GeForce RTX 4090", "bfloat16") == 165e12
    assert peak_rate("NVIDIA GeForce RTX 4090", "tf32") is None
    assert peak_rate("NVIDIA GeForce RTX 4090 Laptop GPU", "bfloat16") is None
    assert peak_rate("Voodoo 2", "bfloat16") is None
