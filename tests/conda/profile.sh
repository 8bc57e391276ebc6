# As conda's own etc/profile.d/conda.sh, as far as anybody needs it: `conda activate` and `conda deactivate`.
conda() {
    case "${1:-}" in
        activate)
            [ -z "${CONDA_PREFIX:-}" ] || conda deactivate
            case "${2:-base}" in
                base) CONDA_PREFIX=@PREFIX@ ;;
                */*) CONDA_PREFIX=$2 ;;
                *) CONDA_PREFIX=@PREFIX@/envs/$2 ;;
            esac
            CONDA_DEFAULT_ENV=${2:-base} CONDA_SHLVL=1 CONDA_OLD_PATH=$PATH PATH=$CONDA_PREFIX/bin:$PATH
            export CONDA_PREFIX CONDA_DEFAULT_ENV CONDA_SHLVL PATH
            for conda_script in "$CONDA_PREFIX"/etc/conda/activate.d/*.sh; do
                [ ! -e "$conda_script" ] || . "$conda_script"
            done
            ;;
        deactivate)
            for conda_script in "$CONDA_PREFIX"/etc/conda/deactivate.d/*.sh; do
                [ ! -e "$conda_script" ] || . "$conda_script"
            done
            PATH=$CONDA_OLD_PATH
            unset CONDA_PREFIX CONDA_DEFAULT_ENV CONDA_SHLVL CONDA_OLD_PATH
            ;;
        *) command @PREFIX@/bin/conda "$@" ;;
    esac
}
export CONDA_EXE=@PREFIX@/bin/conda
PATH=@PREFIX@/condabin:$PATH
