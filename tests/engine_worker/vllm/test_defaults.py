"""What vLLM is started with where the user does not say."""

from engine_worker.engines.vllm.defaults import DEMO_MODEL, default_environment, default_flags, names_model


def test_without_a_model_it_is_the_demo_model() -> None:
    flags = default_flags([], cpu=True)
    assert flags[flags.index("--model") + 1] == str(DEMO_MODEL)
    assert (DEMO_MODEL / "config.json").is_file()
    assert "--dtype" in flags


def test_another_model_gets_nothing_of_the_demo_models() -> None:
    for arguments in (["--model", "x"], ["--seed", "1", "--model=x"]):
        assert names_model(arguments)
        assert default_flags(arguments, cpu=False) == []
        assert "OMP_NUM_THREADS" not in default_environment(arguments, cpu=True)


def test_every_model_on_a_cpu_prefills_in_one_piece() -> None:
    for arguments in ([], ["--model", "x"]):
        assert "--no-enable-chunked-prefill" in default_flags(arguments, cpu=True)
        assert "TORCHDYNAMO_DISABLE" in default_environment(arguments, cpu=True)


def test_the_demo_model_on_a_cpu_runs_inside_engine_core() -> None:
    assert "uni" in default_flags([], cpu=True)
    assert default_environment([], cpu=True)["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in default_environment(["--model", "x"], cpu=True)


def test_the_demo_model_on_a_gpu_is_left_to_vllm() -> None:
    assert "--dtype" not in default_flags([], cpu=False)
    assert "TORCHDYNAMO_DISABLE" not in default_environment([], cpu=False)


def test_usage_statistics_are_off() -> None:
    assert default_environment(["--model", "x"], cpu=False)["VLLM_NO_USAGE_STATS"] == "1"
