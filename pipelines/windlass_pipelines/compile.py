"""Write the compiled pipelines beside their modules: `python -m windlass_pipelines.compile`."""

from pathlib import Path

from kfp import compiler

from windlass_pipelines.recipe_pipeline import recipe_pipeline

COMPILED = Path(__file__).with_name("recipe_pipeline.yaml")


def compile_to(path: Path) -> None:
    compiler.Compiler().compile(recipe_pipeline(), str(path))


if __name__ == "__main__":
    compile_to(COMPILED)
