#!/bin/bash
# Run a kernel as if its environment had been activated in a shell first.
#
#     activated.sh PYTHON KIND PREFIX ROOT COMMAND [ARGUMENT ...]
#
# PYTHON  the interpreter of our own that reads conda's variables
# KIND    conda, pixi, venv or uv
# PREFIX  the environment
# ROOT    the conda that it belongs to, or nothing
#
# The command replaces this process, so that interrupts reach it. What the environment's own snippets
# do wrong must not keep it from starting: none of set -e, set -u and the like here.

python=$1 kind=$2 prefix=$3 root=$4
shift 4

# Of another environment, in which the server may have been started by hand.
unset PYTHONHOME VIRTUAL_ENV VIRTUAL_ENV_PROMPT
unset CONDA_PREFIX CONDA_DEFAULT_ENV CONDA_SHLVL CONDA_PROMPT_MODIFIER CONDA_EXE CONDA_PYTHON_EXE _CE_CONDA _CE_M
unset PIXI_IN_SHELL PIXI_PROMPT "${!CONDA_PREFIX_@}" "${!PIXI_PROJECT_@}" "${!PIXI_ENVIRONMENT_@}"

PATH=$prefix/bin:${PATH:-/usr/local/bin:/usr/bin:/bin}

if [[ $kind == venv || $kind == uv ]]; then
  export PATH VIRTUAL_ENV="$prefix"
  exec "$@"
fi

if [[ -n $root && -x $root/bin/conda ]]; then
  PATH=$PATH:$root/condabin
  export CONDA_EXE="$root/bin/conda" CONDA_PYTHON_EXE="$root/bin/python"
fi
name=$prefix
if [[ $prefix == "$root" ]]; then
  name=base
elif [[ $prefix == */envs/* ]]; then
  name=${prefix##*/}
fi
export PATH CONDA_PREFIX="$prefix" CONDA_DEFAULT_ENV="$name" CONDA_SHLVL=1 CONDA_PROMPT_MODIFIER="($name) "

# What `conda env config vars set` and packages want to be set.
if [[ -e $prefix/conda-meta/state || -d $prefix/etc/conda/env_vars.d ]]; then
  while IFS= read -r -d '' assignment; do
    export "${assignment?}"
  done < <("$python" -I -S "${BASH_SOURCE[0]%/*}/condavars.py" "$prefix")
fi

# Under names that no snippet has.
_kernel_command=("$@")
_kernel_directory=$PWD
exec {_kernel_input}<&0 {_kernel_output}>&1 </dev/null >&2
_kernel_start() {
  trap - EXIT INT TERM
  cd -- "$_kernel_directory" || true
  exec <&"$_kernel_input" >&"$_kernel_output" {_kernel_input}<&- {_kernel_output}>&-
  exec "${_kernel_command[@]}"
}
readonly -f _kernel_start
# `exit` in a snippet ends this shell; the command runs even then.
trap _kernel_start EXIT

shopt -s nullglob
for snippet in "$prefix"/etc/conda/activate.d/*.sh; do
  # shellcheck disable=SC1090
  . "$snippet"
  # One snippet's options are not the next one's.
  set +aefuvx +o posix
done
_kernel_start
